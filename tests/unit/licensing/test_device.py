"""A license knows its device again, and says nothing about it."""

from __future__ import annotations

import json

import pytest

import nnguard
from nnguard._licensing.device import DeviceBinding

VALUES = [("host", "ada-laptop"), ("machine-id", "4f2a91c"), ("network", "00:1b:44:11:3a:b7")]
DEVICE = nnguard.licensing.Device.of_values(VALUES)


def test_this_machine_is_the_same_twice() -> None:
    device = nnguard.licensing.Device.this()
    assert device == nnguard.licensing.Device.this()
    assert "host" in dict(device.fingerprint)
    assert len(set(device.fingerprint)) == len(device.fingerprint)


def test_device_survives_json() -> None:
    for device in (DEVICE, nnguard.licensing.Device.this()):
        assert nnguard.licensing.Device.from_json(device.to_json()) == device


def test_no_value_leaves_the_machine() -> None:
    text = DEVICE.to_json()
    assert [trait["kind"] for trait in json.loads(text)] == ["host", "machine-id", "network"]
    for _, value in VALUES:
        assert value not in text


def test_kind_and_value_both_count() -> None:
    devices = [
        nnguard.licensing.Device.of_values([pair]) for pair in (("a", "b"), ("ab", ""), ("b", "a"))
    ]
    assert len({device.fingerprint[0][1] for device in devices}) == 3


def test_equal_traits_count_once() -> None:
    assert len(nnguard.licensing.Device.of_values(VALUES * 2).fingerprint) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '["a"]',
        "null",
        "[{}]",
        '[{"kind": "host"}]',
        '[{"kind": "host", "sha256": "00"}]',
        '[{"kind": "host", "sha256": "zz"}]',
        '[{"kind": "host", "sha256": null}]',
        "[" * 100_000,
        "1" * 10_000,
    ],
)
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(ValueError, match="not the fingerprint of a device"):
        nnguard.licensing.Device.from_json(text)


# Bindings


def test_binding_counts_the_traits_that_are_there() -> None:
    binding = DeviceBinding.make(DEVICE, 2)
    assert binding.matches(DEVICE) == 3
    assert binding.matches(nnguard.licensing.Device.of_values(VALUES[:2])) == 2
    others = [("host", "eve"), *VALUES[1:2], ("network", "other")]
    assert binding.matches(nnguard.licensing.Device.of_values(others)) == 1
    assert binding.matches(nnguard.licensing.Device(())) == 0


def test_bindings_of_the_same_device_have_nothing_in_common() -> None:
    """Salted: who holds two licenses cannot tell that they are of one machine."""
    one, two = DeviceBinding.make(DEVICE, 2), DeviceBinding.make(DEVICE, 2)
    assert one.salt != two.salt
    assert not set(one.prints) & set(two.prints)


def test_prints_are_not_the_hashes_that_the_customer_sent() -> None:
    encoded = b"".join(DeviceBinding.make(DEVICE, 2).prints)
    for _, digest in DEVICE.fingerprint:
        assert bytes.fromhex(digest)[:16] not in encoded


def test_binding_comes_back() -> None:
    binding = DeviceBinding.make(DEVICE, 2)
    assert DeviceBinding.from_cbor(binding.to_cbor()) == binding
    assert binding.to_json() == {"required": 2, "of": 3}


@pytest.mark.parametrize("required", [0, -1, 4])
def test_binding_asks_for_no_more_than_there_is(required: int) -> None:
    with pytest.raises(ValueError, match="3 components"):
        DeviceBinding.make(DEVICE, required)


def test_trait_that_a_customer_sends_twice_counts_once() -> None:
    """However it is spelled."""
    trait, *others = json.loads(DEVICE.to_json())
    twice = {"kind": "another", "sha256": trait["sha256"].upper()}
    device = nnguard.licensing.Device.from_json(json.dumps([trait, twice, trait, *others]))
    assert DeviceBinding.make(device, 3).to_json() == {"required": 3, "of": 3}
    with pytest.raises(ValueError, match="3 components, of which 4 cannot be required"):
        DeviceBinding.make(device, 4)


def test_device_of_too_many_traits() -> None:
    device = nnguard.licensing.Device.of_values(("card", str(number)) for number in range(65))
    with pytest.raises(ValueError, match="65 components"):
        DeviceBinding.make(device, 2)


def test_all_traits_but_one_have_to_be_there_unless_said_otherwise(
    model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    customer = nnguard.Identity.generate().recipient
    made = nnguard.lock(model)
    trial, content_key = made.trial, made.content_key
    for traits, given, required in ((1, None, 1), (2, None, 2), (5, None, 4), (5, 2, 2)):
        device = nnguard.licensing.Device.of_values(
            ("card", str(number)) for number in range(traits)
        )
        license_ = nnguard.licensing.issue(
            trial,
            content_key,
            to=customer,
            signer=key,
            terms=nnguard.licensing.Terms(device=device, device_matches=given),
        )
        assert license_.terms.device is not None
        assert license_.terms.device.to_json() == {"required": required, "of": traits}
