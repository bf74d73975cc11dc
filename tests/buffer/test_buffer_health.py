from __future__ import annotations

import stat

import pytest

from otel_agent_telemetry.buffer.health import Health, read_health
from otel_agent_telemetry.buffer.layout import health_path


def test_health_is_read_back(tmp_path):
    """What one deliverer wrote, the next one goes on from."""
    health = Health(delivered=3, target="memory", counters={"events": 2})

    health.write(tmp_path)

    assert read_health(tmp_path) == health
    assert stat.S_IMODE(health_path(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["health.json"]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1]", b"null", b'{"delivered": 1', b'{"unknown": 5}'])
def test_unreadable_health_is_all_zero(tmp_path, content):
    """A damaged file costs the sums, not the delivery."""
    health_path(tmp_path).write_bytes(content)

    assert read_health(tmp_path) == Health()


def test_values_of_a_wrong_type_are_not_believed(tmp_path):
    """A sum that is text would break the next addition."""
    health_path(tmp_path).write_bytes(b'{"delivered": "many", "counters": [], "rejected": 4}')

    health = read_health(tmp_path)
    health.delivered += 1
    health.add_counters("w", {"events": 1})

    assert (health.delivered, health.rejected, health.counters) == (1, 4, {"events": 1})


def test_counters_of_gone_writers_are_added_up(tmp_path):
    """Numbers add up; sequence numbers do not; the last error is kept as the last problem."""
    health = Health()

    health.add_counters("w1", {"events": 2, "lost": 1, "last_seq": 90, "last_error": "journal write: full"})
    health.add_counters("w2", {"events": 3, "last_seq": 10})

    assert health.counters == {"events": 5, "lost": 1}
    assert health.issued == {"w1": 90, "w2": 10}
    assert health.writers_gone == 2
    assert health.last_problem == "journal write: full"


def test_writing_over_a_folder_is_an_error(tmp_path):
    """OSError, which the drain counts."""
    health_path(tmp_path).mkdir()

    with pytest.raises(OSError, match=r"health"):
        Health().write(tmp_path)
