"""`policy`: make, sign, show and check trust policies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import click

import nnguard
from nnguard._base.times import now
from nnguard._cli.commands import Group, Options, command
from nnguard._cli.keys import SIGNING_KEY, load_signer
from nnguard._cli.options import argument, option, output
from nnguard._cli.output import Outcome
from nnguard._crypto.trust import key_files
from nnguard._policy.advice import advise
from nnguard._policy.document import PolicyKey, Rule
from nnguard._policy.evaluation import expired
from nnguard._policy.reading import REPAIR

__all__ = ["run_check", "run_new", "run_policy", "run_show", "run_sign"]

_OPTIONS = {
    "--scope": "rules[0].scopes",
    "--threshold": "rules[0].threshold",
    "--level": "rules[0].level",
    "--root-threshold": "root.threshold",
}
"""Options of `policy new` and the members that they set."""

_AFTER = option("--after FILE", "The version before, signed; the policy then comes with it.")

run_policy = Group(
    "policy",
    {
        "Deployments, who write them": {"new": "policies", "check": "policies", "show": "policies"},
        "Holders of root keys, who sign them": {"sign": "policies"},
    },
    """
  nnguard policy new -o policy.toml --scope "acme.ai/*" --trust vendor.pub
  nnguard policy check policy.toml
  nnguard verify release.nnc --policy policy.toml
""",
    help="Make, sign, show and check trust policies.\n\nA policy says whose signatures count on "
    "which releases, and how many of them are needed.",
)


@command(
    output("Policy, TOML or JSON by its name,"),
    option("--scope ISSUER/NAME...", "Releases that may be signed, such as acme.ai/*."),
    option("--trust PATH...", "Public keys that may sign them, named as their files are."),
    option("--threshold N", "How many of these keys have to sign.", default=1),
    option("--level LEVEL", "strict, permissive or audit.", default="strict"),
    option("--root PATH...", "Public keys that sign the policy itself."),
    option("--root-threshold N", "How many of these have to sign.", default=1),
    option("--expires TIME", "The policy holds until then, such as 2027-12-31 or 90d."),
)
def run_new(options: Options) -> Outcome:
    r"""Make a policy of one rule to go on from.

    Examples:
      nnguard policy new -o policy.toml --scope "acme.ai/*" --trust vendor.pub
      nnguard policy new -o policy.json --scope "acme.ai/*" --trust keys --threshold 2 \
          --root root-a.pub --root root-b.pub --root-threshold 2 --expires 90d
    """
    for name, given in (("--scope", options.scope), ("--trust", options.trust)):
        if not given:
            raise click.UsageError(f"{name} is missing")
    if options.expires is not None and options.expires <= now():
        raise click.UsageError(f"--expires: {options.expires.isoformat()} is in the past")
    with _about_options():
        policy = nnguard.TrustPolicy.new(
            options.scope,
            _keys_in(options.trust),
            threshold=options.threshold,
            level=options.level,
            root=_keys_in(options.root),
            root_threshold=options.root_threshold,
            expires=options.expires,
        )
    policy.save(options.output, overwrite=options.force)
    return Outcome({"file": options.output}, [f"Wrote {options.output}: read it, and add to it"])


@command(
    argument("POLICY", "Policy, or one that other root keys have signed."),
    output("Signed policy"),
    SIGNING_KEY,
    _AFTER,
)
def run_sign(options: Options) -> Outcome:
    """Sign a policy with a root key.

    Each holder of a root key runs this on what the one before wrote. A later version needs the
    root keys of the version before as well, which --after names.

    Examples:
      nnguard policy sign policy.toml -o acme.policy --key root-a.key
      nnguard policy sign acme.policy -o acme.policy --force --key root-b.key
      nnguard policy sign next.toml -o next.policy --key root-a.key --after acme.policy
    """
    key = load_signer(options.key, options.passphrase_file)
    policy = nnguard.TrustPolicy.load(options.policy)
    after = None if options.after is None else nnguard.TrustPolicy.load(options.after)
    signed = policy.sign(key, after=after)
    signed.save(options.output, overwrite=options.force)
    lines = [f"Signed version {signed.version}: {options.output}"]
    if missing := _missing(signed):
        lines.append(f"  not in force yet: {missing}")
    if signed.version > 1 and not signed.older:
        lines.append(
            f"  version {signed.version - 1} is not in it: --after adds it, for whoever has that"
        )
    values = {"file": options.output, "version": signed.version, "complete": not missing}
    return Outcome(values, lines)


@command(argument("POLICY", "Policy."))
def run_show(options: Options) -> Outcome:
    """Show what a policy says, without checking it.

    Examples:
      nnguard policy show acme.policy
    """
    policy = nnguard.TrustPolicy.load(options.policy)
    return Outcome({"policy": policy.to_json()}, _lines(policy))


@command(argument("POLICY", "Policy."), _AFTER)
def run_check(options: Options) -> Outcome:
    """Check a policy: its form, its signatures, and what is likely a mistake.

    Exit code 0 means that the policy can be used.

    Examples:
      nnguard policy check policy.toml
      nnguard policy check next.policy --after acme.policy
    """
    policy = nnguard.TrustPolicy.load(options.policy)
    policy.authenticate()
    if options.after is not None:
        before = nnguard.TrustPolicy.load(options.after)
        before.authenticate()
        policy.check_succeeds(before)
    for finding in expired(policy, now()):
        if any(rule.level.refuses(finding.reason) for rule in policy.rules):
            raise finding.error()
    advice = [*advise(policy, now())]
    signed = "signed" if policy.message is not None else "not signed"

    def lines() -> Iterator[str]:
        yield f"Version {policy.version} can be used: {options.policy}, {signed}"
        yield from (f"  {said}" for said in advice)

    values = {"version": policy.version, "signed": policy.message is not None, "advice": advice}
    return Outcome(values, lines())


@contextlib.contextmanager
def _about_options() -> Iterator[None]:
    """Name options where a policy of theirs would be malformed."""
    try:
        yield
    except nnguard.errors.PolicyError as error:
        member, _, said = str(error).partition(": ")
        name = next((name for name in _OPTIONS if member.startswith(_OPTIONS[name])), member)
        hint = "" if error.hint == REPAIR else error.hint
        raise nnguard.errors.ArgumentError(f"{name}: {said}", hint=hint) from None


def _keys_in(paths: tuple[str, ...]) -> dict[str, Path]:
    """Return the files of keys, by name."""
    files = [file for path in paths for file in key_files(Path(path))]
    found = {file.stem: file for file in files}
    if len(found) < len(files):
        raise click.UsageError("two files of keys have the same name: rename one of them")
    return found


def _missing(policy: nnguard.TrustPolicy) -> str:
    """Return what a policy that is being signed lacks."""
    try:
        policy.authenticate()
    except nnguard.errors.PolicyError as error:
        return str(error)
    return ""


def _lines(policy: nnguard.TrustPolicy) -> Iterator[str]:
    yield f"Version {policy.version} (not checked), SHA-256 {policy.digest}"
    if policy.expires is not None:
        yield f"  expires at  {policy.expires.isoformat()}"
    if policy.root is not None:
        keys = ", ".join(key.name for key in policy.root.keys)
        yield f"  root        {policy.root.threshold} of {keys}"
    if policy.message is not None:
        by = ", ".join(key_id.hex() for key_id in policy.message.key_ids)
        yield f"  signed by   {by}"
    for key in policy.keys.values():
        yield f"  key         {key.name}: {key.id}, {key.key.algorithm}{_limits(key)}"
    for rule in policy.rules:
        yield from _lines_of(rule)


def _limits(key: PolicyKey) -> str:
    until = "" if key.not_after is None else f", until {key.not_after.isoformat()}"
    return until + (", REVOKED" if key.revoked else "")


def _lines_of(rule: Rule) -> Iterator[str]:
    yield f"  rule        {', '.join(scope.text for scope in rule.scopes)}"
    yield f"    {rule.level.value}, {rule.threshold} of {', '.join(k.name for k in rule.keys)}"
    for label, value in (
        ("version", rule.min_version and f"{rule.min_version} or later"),
        ("release", "" if rule.min_release is None else f"{rule.min_release} or later"),
        ("post-quantum", "required" if rule.post_quantum else ""),
        ("latest", rule.max_age and f"a statement not older than {rule.max_age}"),
    ):
        if value:
            yield f"    {label}: {value}"
