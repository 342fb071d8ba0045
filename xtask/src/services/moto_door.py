"""moto behind a door that lets one request in at a time.

moto answers each request in a thread of its own and guards next to nothing: two receivers are handed one message, or two
messages of one group of a FIFO queue, and a message that comes while another is deleted can vanish. Of two messages of one
group whose time ran out it hands out the second before the first; a receipt of a FIFO queue whose time is over still
deletes or hides the message, also from who has it by now, and so sets free what comes behind it; and an event whose
source has a quote in it breaks its rules. AWS does none of that.

A long poll does not keep the door shut: it asks over and over without waiting, until its time has passed. While a request
is inside, the clock stands still.

Usage: moto_door.py HOST PORT
"""

import io
import json
import os
import sys
import threading
import time

import moto.sqs.models as sqs
from moto.events.utils import EventTemplateParser
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import run_simple

POLL_PAUSE_SECONDS = 0.05
RECEIVE = "AmazonSQS.ReceiveMessage"


class Door:
    """A WSGI application around another one."""

    def __init__(self, application):
        self.application = application
        self.lock = threading.Lock()
        self.now = time.time()

    def __call__(self, environ, start_response):
        # Read in front of the door: a slow client keeps nobody else waiting.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        wait, body = without_wait(environ, body)
        until = time.monotonic() + wait
        while True:
            (status, headers), answer = self.pass_through(environ, body)
            if not wait or time.monotonic() >= until or b'"Messages"' in answer:
                start_response(status, headers)
                return [answer]
            time.sleep(POLL_PAUSE_SECONDS)

    def pass_through(self, environ, body):
        length = str(len(body))
        inside = {**environ, "CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(body)}
        head = []

        def start_response(status, headers, exc_info=None):
            head[:] = status, headers

        with self.lock:
            self.now = time.time()
            parts = self.application(inside, start_response)
            answer = b"".join(parts)
            if hasattr(parts, "close"):
                parts.close()
        return head, answer


def without_wait(environ, body):
    """The seconds that a poll would wait, and the poll that does not."""
    if environ.get("HTTP_X_AMZ_TARGET") != RECEIVE:
        return 0, body
    request = json.loads(body)
    wait = int(request.get("WaitTimeSeconds") or 0)
    return wait, json.dumps({**request, "WaitTimeSeconds": 0}).encode()


def mend(door):
    """Mends the order and the receipts of FIFO queues and what rules send, and takes a detour out that changes no answer but that tests would
    wait for: for the age of each message moto counts its whole queue four times over, by a clock that is slow itself.
    """
    parse = EventTemplateParser.parse
    receive_message = sqs.SQSBackend.receive_message
    delete_message = sqs.SQSBackend.delete_message
    change_message_visibility = sqs.SQSBackend.change_message_visibility

    def receive_in_order(backend, queue_name, *arguments, **named):
        # Before any of them is looked at: a group is free once all of its messages are that were handed out.
        pending = backend.get_queue(queue_name).pending_messages
        pending -= {message for message in pending if message.visible}
        return receive_message(backend, queue_name, *arguments, **named)

    def look_at_receipt(backend, queue_name, receipt_handle):
        queue = backend.get_queue(queue_name)
        for message in queue._messages if queue.fifo_queue else ():
            is_over = message.visible or message.receipt_handle != receipt_handle
            if is_over and message.had_receipt_handle(receipt_handle):
                raise sqs.ReceiptHandleIsInvalid()

    def delete_in_time(backend, queue_name, receipt_handle):
        look_at_receipt(backend, queue_name, receipt_handle)
        delete_message(backend, queue_name, receipt_handle)

    def hide_in_time(backend, queue_name, receipt_handle, visibility_timeout):
        look_at_receipt(backend, queue_name, receipt_handle)
        change_message_visibility(backend, queue_name, receipt_handle, visibility_timeout)

    def is_young(backend, queue_name, message):
        seconds = backend.get_queue(queue_name).message_retention_period
        return seconds + message.sent_timestamp / 1000 > door.now

    def as_it_is(input_template, input_paths_map, event):
        # Without a template of its own a rule sends the event itself, not a text that its parts were put into.
        if input_template:
            return parse(input_template, input_paths_map, event)
        return {name: value for name, value in event.items() if name != "ingestion-time"}

    sqs.unix_time = lambda: door.now
    sqs.unix_time_millis = lambda: door.now * 1000
    sqs.SQSBackend.receive_message = receive_in_order
    sqs.SQSBackend.delete_message = delete_in_time
    sqs.SQSBackend.change_message_visibility = hide_in_time
    sqs.SQSBackend.is_message_valid_based_on_retention_period = is_young
    EventTemplateParser.parse = staticmethod(as_it_is)


if __name__ == "__main__":
    host, port = sys.argv[1], int(sys.argv[2])
    os.environ.setdefault("MOTO_PORT", str(port))
    door = Door(DomainDispatcherApplication(create_backend_app))
    mend(door)
    run_simple(host, port, door, threaded=True, request_handler=MotoRequestHandler)
