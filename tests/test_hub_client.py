"""The one client of the Hub: shared by all threads, with a time-out for every request."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from huggingface_hub import close_session, get_session
from huggingface_hub.errors import HfHubHTTPError

from classifier import hub_client
from classifier.hub_client import connect, is_hub_id, with_retries
from hub_server import Hub


def test_connect_shares_one_client_between_threads(hub: Hub) -> None:
    connect()
    client = get_session()
    threads = [threading.Thread(target=connect) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get_session() is client
    assert not client.is_closed


def test_requests_time_out_also_where_the_library_sets_no_limit(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "TIMEOUT", 0.2)
    connect()
    close_session()  # as the library does after a lost connection: the next client is a new one
    silence = hub.fail("silence", "/api/models", times=None)
    with pytest.raises(Exception, match="timed out"):
        connect().model_info("user/name")
    silence.times = 0


def test_with_retries_does_not_wait_for_an_hour(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    monkeypatch.setattr(hub_client.time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    for value in ("3600", later):
        hub.fail("status", "/whoami", status=429, headers={"Retry-After": value})
        with pytest.raises(HfHubHTTPError):
            with_retries(connect().whoami)
    assert hub.asked("whoami") == 2


@pytest.mark.parametrize(
    ("header", "waits"),
    [
        ("7", 7.0),
        (format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True), 0.0),
        ("soon", 1.0),
    ],
    ids=["seconds", "a date", "neither"],
)
def test_with_retries_waits_as_retry_after_says(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, header: str, waits: float
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(hub_client.time, "sleep", waited.append)
    hub.fail("status", "/whoami", status=503, headers={"Retry-After": header})
    assert with_retries(connect().whoami)["name"] == "user"
    assert waited == [waits]


def test_is_hub_id_takes_what_the_hub_takes() -> None:
    assert all(map(is_hub_id, ("mnist", "user/name", "user/na-me_1.x")))
    assert not any(map(is_hub_id, ("", "a/b/c", "user/na me", "user/x.git", "../up", "a@b")))
