"""What ``-m quick`` leaves out is there: what was renamed would run in the inner loop."""

from pathlib import Path

from marks import FLUSHED, NOT_QUICK

TESTS = Path(__file__).parent


def test_what_is_left_out_is_there() -> None:
    assert [name for name in NOT_QUICK if not (TESTS / name).exists()] == []
    found = {path.stem for path in TESTS.rglob("*") if path.suffix in ("", ".py")}
    assert found.issuperset(FLUSHED)
