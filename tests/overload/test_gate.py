"""The limit on what is in flight."""

from spooky.overload.gate import Gate


def test_a_gate_refuses_what_exceeds_its_limit_and_takes_again_after_a_leave() -> None:
    gate = Gate(2)
    assert gate.try_enter()
    assert gate.try_enter()
    assert not gate.try_enter()
    gate.leave()
    assert gate.try_enter()


def test_whoever_waited_longest_is_called_first() -> None:
    gate = Gate(2)
    gate.try_enter()
    gate.try_enter()
    called: list[str] = []
    gate.wait(lambda: called.append("first"))
    gate.wait(lambda: called.append("second"))
    gate.leave()
    assert called == ["first"]
    gate.leave()
    assert called == ["first", "second"]


def test_no_more_wait_than_may_be_inside() -> None:
    gate = Gate(1)
    gate.try_enter()
    assert gate.wait(lambda: None)
    assert not gate.wait(lambda: None)


def test_whoever_stopped_waiting_is_not_called() -> None:
    gate = Gate(1)
    gate.try_enter()
    called: list[str] = []

    def retry() -> None:
        called.append("called")

    gate.wait(retry)
    gate.stop_waiting(retry)
    gate.stop_waiting(retry)
    gate.leave()
    assert called == []
    assert gate.active == 0


def test_a_lowered_limit_lets_nobody_in_until_enough_have_left() -> None:
    gate = Gate(2)
    gate.try_enter()
    gate.try_enter()
    gate.limit = 1
    gate.leave()
    assert not gate.try_enter()
    gate.leave()
    assert gate.try_enter()
