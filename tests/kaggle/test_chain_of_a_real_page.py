"""A training page over five sessions, two of them killed: what comes home equals an uninterrupted run."""

from __future__ import annotations

import pytest

from benchmarks.chain import report, run_chain


@pytest.mark.slow
def test_a_page_chained_over_five_sessions_two_of_them_killed_equals_a_local_run(tmp_path):
    result = run_chain(tmp_path)
    states = ["COMPLETE", "CANCEL_ACKNOWLEDGED", "COMPLETE", "CANCEL_ACKNOWLEDGED", "COMPLETE"]
    assert [session.status for session in result.sessions] == states
    assert [session.mounts for session in result.sessions] == [
        [],
        *[
            [f"{session.ref}/{mounted}"]
            for session, mounted in zip(result.sessions[1:], (1, 1, 3, 3), strict=True)
        ],
    ]
    assert result.steps[0] == 1 and result.steps[3] == 0
    assert result.differences() == []
    assert "no difference" in report(result)[-1]
