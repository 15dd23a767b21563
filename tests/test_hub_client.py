"""The one client of the Hub: shared by all threads, bounded in time, switched off by one alone."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import close_session, get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import http_backoff

from classifier import hub_client
from classifier.hub_client import HubUnreachableError, connect, limited_retries
from hub_server import Hub


def in_a_thread(call: Callable[[], Any]) -> Any:
    """Calls in another thread and returns what it returns, or the exception."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    return outcome[0]


def test_all_threads_and_rooms_share_one_client_that_nobody_closes(hub: Hub) -> None:
    connect()
    client = get_session()
    for _ in range(3):
        in_a_thread(connect)
        with limited_retries():
            connect().whoami()
    assert get_session() is client
    assert not client.is_closed


def test_offline_in_one_thread_leaves_the_others_online(hub: Hub) -> None:
    with limited_retries(offline=True):
        with pytest.raises(HubUnreachableError):
            connect().whoami()
        assert in_a_thread(connect().whoami)["name"] == "user"
    assert connect().whoami()["name"] == "user"


def test_a_silent_hub_is_left_without_the_retries_of_the_library(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "READ_TIMEOUT", 0.1)
    monkeypatch.setattr(hub_client, "MAX_SILENCE", 0.2)
    hub.fail("silence", "/whoami", times=None)
    with limited_retries(), pytest.raises(HubUnreachableError, match="no answer"):
        http_backoff("GET", f"{hub.endpoint}/api/whoami-v2")
    assert hub.asked("whoami") == 1


def test_a_client_made_anew_has_the_deadlines_too(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "READ_TIMEOUT", 0.2)
    connect()
    close_session()  # as the library does after a lost connection
    silence = hub.fail("silence", "/api/models", times=None)
    start = time.monotonic()
    with pytest.raises(Exception, match="timed out"):
        connect().model_info("user/name")  # the library asks for no timeout here
    assert time.monotonic() - start < 8
    silence.times = 0


def test_a_longer_wait_than_is_reasonable_is_not_waited_for(hub: Hub) -> None:
    hub.fail("status", "/whoami", status=429, headers={"Retry-After": "3600"}, times=None)
    start = time.monotonic()
    with pytest.raises(HfHubHTTPError):
        hub_client.with_retries(lambda: get_session_whoami(hub))
    assert time.monotonic() - start < 60
    assert hub.asked("whoami") == 1


def get_session_whoami(hub: Hub) -> Any:
    """Asks once, without the retries that some of the library's calls have."""
    from huggingface_hub.utils import hf_raise_for_status

    answer = get_session().get(f"{hub.endpoint}/api/whoami-v2")
    hf_raise_for_status(answer)
    return answer.json()
