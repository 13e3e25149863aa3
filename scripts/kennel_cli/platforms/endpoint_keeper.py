"""The background process that runs one local endpoint."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kennel.errors import KennelError
from kennel_cli.platforms.endpoint_server import (
    POLL,
    Server,
    end_servers,
    remove_tree,
    start_server,
    wait_until_healthy,
    why_it_failed,
)
from kennel_cli.platforms.opt_ml import LayoutError
from kennel_cli.platforms.records import Record
from kennel_cli.platforms.store import LocalStore

SWITCH_GRACE = 1.0  # seconds that a client may take from reading an endpoint's address to connecting to it


def keep(record: Record, home: Path) -> None:
    """Serve until somebody deletes the endpoint, and write its status as it goes."""
    store = LocalStore(home / "s3")
    try:
        server = start_server(record.request(), record.tree, record.log, record.runner(), store)
    except (LayoutError, KennelError) as error:
        _fail(record, str(error))
        return
    if wait_until_healthy(server, record.is_asked_to_stop):
        record.update(EndpointStatus="InService", Port=server.port)
        server = _serve(record, server, store)
    reason = why_it_failed(server)
    end_servers(server)
    if not record.is_asked_to_stop():
        _fail(record, reason)


def _serve(record: Record, server: Server, store: LocalStore) -> Server:
    """Watch until the server ends or the endpoint is deleted; return the server, another one after an update."""
    updates = 0
    while server.program.poll() is None and not record.is_asked_to_stop():
        if record.is_asked_to_change():
            updates += 1
            tree = record.tree.with_name(f"{record.tree.name}-{updates}")
            server = _update(record, server, record.change(), tree, store)
            record.end_change()
        time.sleep(POLL)
    return server


def _update(record: Record, old: Server, served: Mapping[str, Any], tree: Path, store: LocalStore) -> Server:
    """Bring up a server for `served` beside the old one, and end the old one; return the one that serves now.

    That is the old one, with a FailureReason in the status, when the new one never becomes healthy.
    """
    record.update(EndpointStatus="Updating", FailureReason=None)
    try:
        new = start_server(served, tree, record.log, record.runner(), store)
    except Exception as error:
        if not isinstance(error, LayoutError | KennelError):
            logging.exception("the new server could not be started")
        return _keep_old(record, old, served, tree, str(error) or repr(error))
    if wait_until_healthy(new, record.is_asked_to_stop):
        record.update(Port=new.port, **served["Shown"])
        time.sleep(SWITCH_GRACE)  # a request whose sender has read the old port is on its way
        end_servers(old)
        remove_tree(old.tree)
        record.update(EndpointStatus="InService")
        return new
    reason = why_it_failed(new)
    end_servers(*([old, new] if record.is_asked_to_stop() else [new]))
    return _keep_old(record, old, served, tree, reason)


def _keep_old(record: Record, old: Server, served: Mapping[str, Any], tree: Path, reason: str) -> Server:
    remove_tree(tree)
    if old.program.poll() is None:  # else nobody serves any more, which the endpoint's end will say
        message = f"The endpoint was not updated to {served['EndpointConfigName']} and serves as before: {reason}"
        record.update(EndpointStatus="InService", FailureReason=message[:1024])
    return old


def _fail(record: Record, reason: str) -> None:
    record.update(EndpointStatus="Failed", FailureReason=reason[:1024])


def main(folder: Path) -> None:
    """Keep the endpoint in `folder`; whatever happens, its status says how it ended, until it is deleted."""
    record = Record(folder)
    try:
        keep(record, record.home)
    except Exception as error:
        logging.exception("the keeper failed")
        _fail(record, f"{type(error).__name__}: {error}; see {record.folder / 'keeper.log'}")
    if record.is_asked_to_stop():  # looked at last, so that whoever asks from now on finds no keeper and removes it
        record.remove()
