"""How clients get in: the worker, its listeners, their connections, and how they drain."""
