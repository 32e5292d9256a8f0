"""`gate`, and what it logs."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import click

import nnguard
from nnguard import errors
from nnguard._base.times import UNITS
from nnguard._cli.commands import Options, command
from nnguard._cli.compression import WORKERS
from nnguard._cli.failures import as_values, check_uninterrupted, exit_code_of
from nnguard._cli.keys import PASSPHRASE_FILE, load_private, load_signer
from nnguard._cli.licensing import POLICY, policy_of
from nnguard._cli.options import (
    AUTHORITY,
    FORCE,
    OMS,
    REMEMBERED,
    argument,
    authority,
    bundle_of,
    option,
    under,
)
from nnguard._cli.output import Outcome, say
from nnguard._cli.systemd import tell_systemd
from nnguard._cli.verifying import ALLOW_TRIAL, EXPECT, expect_of
from nnguard._operations.authority import authority_of
from nnguard._operations.destination import Destination
from nnguard._operations.gate import Gate, is_refusal

__all__ = ["run_gate"]


def read_interval(text: str) -> float:
    """Read a length of time such as `30s`, `5m` or `1h`; return its seconds."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smhd])", text, re.ASCII)
    seconds = 0.0 if found is None else float(found[1]) * UNITS[found[2]].total_seconds()
    if not seconds:
        raise ValueError(f"{text!r} is not a length of time, such as 30s, 5m or 1h")
    return seconds


@command(
    argument("SOURCE", "Signed stream, or folder of them; with a license, a trial."),
    argument("DESTINATION", "Folder to make."),
    AUTHORITY,
    REMEMBERED,
    EXPECT,
    ALLOW_TRIAL,
    under(
        "License",
        option("--license FILE", "Unlock a trial with this license."),
        option("--identity FILE", "Customer's private key."),
        PASSPHRASE_FILE,
        *POLICY,
    ),
    under(
        "Destination",
        option("--in-place", "Fill a folder that is there and stays: the mount point of a volume."),
        FORCE,
        option(
            "--watch DURATION",
            "Check again so often, such as 5m, until it fails.",
            read=read_interval,
        ),
        option("--remove", "Take away what is there when a check refuses the model."),
        option("--oms-key FILE", "Sign it as OMS model.sig, too, with this private ECDSA key."),
    ),
    OMS,
    WORKERS,
    option("--log-json", "Log each step as a line of JSON on standard error, failures included."),
)
def run_gate(options: Options) -> Outcome:
    r"""Let a model pass to a server, if all is right.

    Verify a model, unlock it if there is a license, decode it, and write a folder that any server
    loads: safetensors, their index, and the files beside them that the signature covers. Nothing
    is there unless every check has passed, and what is there was made of the bytes that were
    checked. It needs no network, and writes only beside DESTINATION, or into it with --in-place.

    With --watch it goes on: whatever changes at SOURCE is checked and put there, too. It ends with
    the exit code of the first check that fails; what is there stays, unless --remove says
    otherwise.

    Examples:
      nnguard gate incoming/digits models/digits --trust /etc/nnguard/trust
      nnguard gate release.nnc /mnt/models --policy acme.policy --state /var/lib/nnguard/state \
          --in-place --force --log-json
      nnguard gate trial.nnc models/digits --trust vendor.pub --license ada.license \
          --identity ada.key --watch 1m --remove
    """
    log = _Log(options)
    model = _gate_of(options, log)
    try:
        report = model.let_pass(overwrite=options.force)
        if options.watch is not None:
            tell_systemd("READY=1")
            model.watch(options.watch, report)
    except (errors.NnguardError, OSError) as error:
        check_uninterrupted(error)
        refused = is_refusal(error)
        log.write("refused" if refused else "failed", **_failure(error))
        if refused and options.remove and model.destination.take_away():
            log.write("removed")
        if not options.log_json:
            raise
        return Outcome(as_values(error), [], exit_code_of(error))
    return Outcome(
        {"folder": options.destination, **report.to_json()},
        [] if options.log_json else _lines(options.destination, report),
    )


def _gate_of(options: Options, log: _Log) -> Gate:
    identity = options.identity and load_private(
        nnguard.Identity, options.identity, options.passphrase_file
    )
    conditions = policy_of(options)
    return Gate(
        source=options.source,
        destination=Destination(Path(options.destination), in_place=options.in_place),
        authority=partial(authority_of, **authority(options)),
        oms=bundle_of(options),
        license=options.license or None,
        identity=identity or None,
        license_policy=None if conditions == nnguard.licensing.Policy() else conditions,
        expect=expect_of(options),
        allow_trial=options.allow_trial,
        oms_key=options.oms_key and load_signer(options.oms_key, None),
        workers=options.workers,
        tell=log.step,
    )


class _Log(logging.Handler):
    """Lines of JSON on standard error, each of which stands by itself.

    Without them, a gate that watches says on standard output what it has put there.
    """

    def __init__(self, options: Options) -> None:
        super().__init__(logging.WARNING)
        self._wanted = options.log_json
        self._tells = options.watch is not None and not (
            options.log_json or options.json or options.quiet
        )
        self._where = {"source": options.source, "destination": options.destination}
        if self._wanted:
            logger = logging.getLogger("nnguard")
            logger.addHandler(self)
            click.get_current_context().call_on_close(lambda: logger.removeHandler(self))

    def emit(self, record: logging.LogRecord) -> None:
        """Log what the library warns of."""
        self.write("warning", message=record.getMessage())

    def step(self, name: str, seconds: float, report: nnguard.Report | None) -> None:
        """Log a step that was taken; see `nnguard.gate`."""
        known: dict[str, Any] = {"seconds": round(seconds, 3)}
        if report is not None:
            claims = report.claims
            known |= {"issuer": claims.issuer, "model": claims.name, "version": claims.version}
            known |= {"release": claims.release, "key": report.key_id, "digest": report.digest}
            if report.warnings:
                known["warnings"] = [warning.to_json() for warning in report.warnings]
            if name == "placed" and self._tells:
                for line in _lines(self._where["destination"], report):
                    say(line)
                sys.stdout.flush()
        self.write(name, **known)

    def write(self, event: str, **known: Any) -> None:
        """Log an event."""
        if self._wanted:
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            line = {"time": now, "event": event, **self._where, **known}
            print(json.dumps(line), file=sys.stderr, flush=True)


def _failure(error: Exception) -> dict[str, Any]:
    values = as_values(error)
    del values["ok"]
    return {"code": exit_code_of(error), **values}


def _lines(folder: str, report: nnguard.Report) -> Iterator[str]:
    claims = report.claims
    yield f"Passed: {' '.join([claims.issuer, claims.name, claims.version]).strip()}: {folder}"
    yield f"  key    {report.key_id}"
    yield f"  digest {report.digest}"
