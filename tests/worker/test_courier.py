"""Webhooks on their way to a receiver of this machine: signed, tried again, sent by one node at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from tests.worker.conftest import Bench, stub_spec
from trsp_jobs import db, service
from trsp_jobs.callers import OPERATOR, Caller
from trsp_jobs.scopes import ALL
from trsp_jobs.service.webhooks import JITTER, PAUSES
from trsp_jobs.settings import Settings
from trsp_jobs.webhook_models import Delivery, Webhook
from trsp_jobs.webhooks import Answer, Message, secret_of
from worker.courier import Courier

SECRET = "the-secret-of-the-tests"


@dataclass
class Receiver:
    """An HTTP server that answers as it is told and keeps what it got."""

    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], str]] = field(default_factory=list)
    url: str = ""

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.send_header("Location", f"{found.url}elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Post:
    """A courier with its database."""

    settings: Settings
    sessions: sessionmaker[Session]

    def courier(self, **options: Any) -> Courier:
        return Courier(self.settings, self.sessions, **options)

    def webhook(self, url: str, *events: str, caller: Caller = OPERATOR) -> str:
        with db.session_scope(self.sessions) as session:
            return service.create_webhook(session, caller, url, events).id

    def submit(self, **options: Any) -> str:
        with db.session_scope(self.sessions) as session:
            return service.submit(session, stub_spec("ok"), settings=self.settings, **options).id

    def cancel(self, job_id: str) -> None:
        with db.session_scope(self.sessions) as session:
            service.cancel(session, job_id)

    def deliveries(self) -> list[Delivery]:
        with db.session_scope(self.sessions) as session:
            return list(session.scalars(select(Delivery).order_by(Delivery.id)))

    def pass_time(self) -> None:
        """Let every delivery be due."""
        with db.session_scope(self.sessions) as session:
            session.execute(update(Delivery).values(due_at=func.now()))

    def secret(self, webhook_id: str, generation: int = 1) -> str:
        return secret_of(SECRET, webhook_id, generation)


@pytest.fixture
def post(bench: Bench) -> Post:
    own = bench.settings.model_copy(update={"secret": SecretStr(SECRET), "webhook_allow_private": True})
    return Post(own, bench.sessions)


def test_a_delivery_is_signed_and_tells_what_happened(post: Post, receiver: Receiver) -> None:
    hook = post.webhook(receiver.url, "job.queued", "job.canceled")
    job = post.submit(labels={"team": "x"})
    post.cancel(job)
    assert post.courier().round() == 2
    told = [Verifier(post.secret(hook)).verify(body, headers) for headers, body in receiver.got]
    by_kind = {item["type"]: item["data"] for item in told}
    assert set(by_kind) == {"job.queued", "job.canceled"}
    assert (by_kind["job.canceled"]["job_id"], by_kind["job.canceled"]["before"]) == (job, "queued")
    assert by_kind["job.queued"]["labels"] == {"team": "x"}
    assert {(item.status, item.tries, item.answer) for item in post.deliveries()} == {("delivered", 1, 204)}
    assert post.courier().round() == 0
    with pytest.raises(WebhookVerificationError):
        Verifier(post.secret(hook)).verify(receiver.got[0][1] + " ", receiver.got[0][0])


def test_a_failure_is_tried_again_later_under_the_same_id(post: Post, receiver: Receiver) -> None:
    post.webhook(receiver.url, "job.queued")
    post.submit()
    receiver.answers = [500, 302]
    for tries in (1, 2):
        assert post.courier().round() == 1
        assert post.courier().round() == 0
        (found,) = post.deliveries()
        assert (found.status, found.tries) == ("pending", tries)
        pause = (found.due_at - found.created_at).total_seconds()
        assert pause > PAUSES[tries - 1] * (1 - JITTER)
        post.pass_time()
    assert post.courier().round() == 1
    (found,) = post.deliveries()
    assert (found.status, found.tries, found.error) == ("delivered", 3, "")
    assert receiver.ids() == [found.id] * 3
    assert len({body for _, body in receiver.got}) == 1


def test_after_the_last_try_it_is_given_up_and_can_be_sent_again(post: Post, receiver: Receiver) -> None:
    hook = post.webhook("http://127.0.0.1:1/", "job.queued")
    post.submit()
    for _ in range(len(PAUSES) + 1):
        assert post.courier().round() == 1
        post.pass_time()
    (found,) = post.deliveries()
    assert (found.status, found.answer, found.tries) == ("failed", None, len(PAUSES) + 1)
    assert "did not answer" in found.error
    with db.session_scope(post.sessions) as session:
        session.execute(update(Webhook).values(url=receiver.url))
        service.redeliver(session, hook, found.id, OPERATOR)
    assert post.courier().round() == 1
    assert receiver.ids() == [found.id]
    assert post.deliveries()[0].status == "delivered"


def test_a_receiver_that_is_gone_hears_nothing_any_more(post: Post, receiver: Receiver) -> None:
    hook = post.webhook(receiver.url, "job.queued")
    post.submit()
    receiver.answers = [410]
    post.courier().round()
    post.submit()
    assert [item.status for item in post.deliveries()] == ["failed"]
    with db.session_scope(post.sessions) as session:
        assert "410" in str(service.get_webhook(session, hook, OPERATOR).disabled_reason)


def test_during_the_overlap_both_secrets_sign(post: Post, receiver: Receiver) -> None:
    hook = post.webhook(receiver.url, "job.queued")
    with db.session_scope(post.sessions) as session:
        service.rotate_secret(session, hook, OPERATOR)
    post.submit()
    post.courier().round()
    with db.session_scope(post.sessions) as session:
        session.execute(update(Webhook).values(former_until=func.now()))
    post.submit()
    post.courier().round()
    (during, body), (after, later) = receiver.got
    for generation in (1, 2):
        Verifier(post.secret(hook, generation)).verify(body, during)
    Verifier(post.secret(hook, 2)).verify(later, after)
    with pytest.raises(WebhookVerificationError):
        Verifier(post.secret(hook, 1)).verify(later, after)


def test_several_nodes_send_each_delivery_once(post: Post, receiver: Receiver) -> None:
    post.webhook(receiver.url, "job.queued")
    for _ in range(30):
        post.submit()

    def send_all() -> None:
        courier = post.courier()
        while courier.round():
            continue

    nodes = [threading.Thread(target=send_all) for _ in range(3)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join()
    assert len(receiver.got) == 30
    assert sorted(receiver.ids()) == [item.id for item in post.deliveries()]


def test_what_a_dead_node_had_taken_is_sent_by_another_and_its_own_late_word_is_void(
    post: Post, receiver: Receiver
) -> None:
    post.webhook(receiver.url, "job.queued")
    post.submit()
    with db.session_scope(post.sessions) as session:
        (taken,) = service.take_due(session, secret=SECRET, limit=8, seconds=60)
    assert post.courier().round() == 0
    post.pass_time()
    assert post.courier().round() == 1
    with db.session_scope(post.sessions) as session:
        service.end_try(session, taken, Answer(500, "answered 500"))
    (found,) = post.deliveries()
    assert (found.status, found.answer) == ("delivered", 204)
    assert receiver.ids() == [taken.message.id]


def test_a_job_names_a_webhook_that_hears_of_its_end_alone(post: Post, receiver: Receiver) -> None:
    hook = post.webhook(receiver.url)
    named, other = post.submit(webhook=hook), post.submit()
    post.cancel(named)
    post.cancel(other)
    assert [(item.event, item.body["data"]["job_id"]) for item in post.deliveries()] == [
        ("job.canceled", named)
    ]


def test_other_owners_jobs_are_not_heard_of(post: Post, receiver: Receiver) -> None:
    post.webhook(receiver.url, "job.queued", caller=Caller(None, "other", "other", ALL))
    post.submit()
    assert post.deliveries() == []


def test_what_ended_long_ago_is_forgotten(post: Post, receiver: Receiver) -> None:
    post.webhook(receiver.url, "job.queued")
    post.submit()
    post.courier().round()
    with db.session_scope(post.sessions) as session:
        session.execute(update(Delivery).values(created_at=func.now() - func.make_interval(0, 0, 0, 31)))
    post.courier().round()
    assert post.deliveries() == []


def test_private_addresses_are_refused_when_it_is_sent_unless_allowed(post: Post, receiver: Receiver) -> None:
    post.webhook(receiver.url, "job.queued")
    post.submit()
    strict = Post(post.settings.model_copy(update={"webhook_allow_private": False}), post.sessions)
    assert strict.courier().round() == 1
    (found,) = post.deliveries()
    assert (found.status, "no public address" in found.error) == ("pending", True)
    assert receiver.got == []


def test_it_sends_until_it_is_told_to_end(post: Post) -> None:
    sent: list[str] = []
    ended = threading.Event()

    def sending(message: Message) -> Answer:
        sent.append(message.id)
        return Answer(200)

    post.webhook("http://127.0.0.1:1/", "job.queued")
    thread = threading.Thread(target=post.courier(sending=sending).run, args=(ended,))
    thread.start()
    post.submit()
    _until(lambda: len(sent) == 1)
    ended.set()
    thread.join(10)
    assert not thread.is_alive()


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        threading.Event().wait(0.05)
    pytest.fail("waited in vain")
