"""What happens to one request: validate, route, admit, balance, dispatch, stream, account."""
