# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    METADATA_URI,
    SHUTDOWN_URI,
    agent_is_connected,
    check_maintenance,
    shutdown_from_xml,
    shutdown_to_xml,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'{state}/></channel>"
OTHER = "<channel type='unix'><target type='virtio' name='org.libguestfs.channel.0' state='connected'/></channel>"


def domain(devices: str) -> str:
    return f"<domain type='kvm' id='1'><name>db</name><devices>{devices}</devices></domain>"


@pytest.mark.parametrize(
    ("devices", "connected"),
    [
        ("", None),
        (OTHER, None),
        (AGENT.format(state=""), False),
        (AGENT.format(state=" state='disconnected'"), False),
        (AGENT.format(state=" state='connected'"), True),
        (OTHER + AGENT.format(state=" state='disconnected'"), False),
    ],
)
def test_whether_an_agent_is_connected_is_for_its_own_channel_to_say(devices: str, connected: bool | None) -> None:
    assert agent_is_connected(domain(devices)) is connected


def test_the_note_is_not_in_the_namespace_of_the_policy_which_releases_rewrite_as_a_whole() -> None:
    assert SHUTDOWN_URI != METADATA_URI


@pytest.mark.parametrize("maintenance", ["kernel", "tasks-0a1b2c", "Kernel & <firmware> 'x' \"y\"", "größer, 2026"])
def test_a_maintenance_is_read_as_it_was_written(maintenance: str) -> None:
    check_maintenance("remember", maintenance)
    text = shutdown_to_xml(maintenance)
    # libvirt puts what has no namespace into the one that it is given.
    assert "xmlns" not in text
    assert shutdown_from_xml(text, "db") == maintenance
    assert shutdown_from_xml(text.replace("<shutdown ", f"<shutdown xmlns='{SHUTDOWN_URI}' "), "db") == maintenance


@pytest.mark.parametrize("maintenance", ["", " ", " kernel", "kernel\n", "a\tb", "a\x00"])
def test_a_maintenance_that_xml_would_not_keep_is_refused(maintenance: str) -> None:
    with pytest.raises(FleetError) as caught:
        check_maintenance("remember", maintenance)
    assert (caught.value.code, caught.value.facts) == ("bad_input", {"option": "remember"})


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("<shutdown version='2' maintenance='kernel'/>", "note_version", "Upgrade virtops.kvm_fleet"),
        ("<shutdown maintenance='kernel'/>", "note_version", "version None"),
        ("<shutdown version='1'/>", "bad_note", "virsh metadata db"),
        ("<shutdown version='1' maintenance=''/>", "bad_note", "names no maintenance"),
        ("<shutdown", "bad_xml", "XML"),
    ],
)
def test_a_note_that_cannot_be_used_is_refused_with_the_name_of_the_vm(text: str, code: str, words: str) -> None:
    with pytest.raises(FleetError, match=words) as caught:
        shutdown_from_xml(text, "db")
    assert caught.value.code == code
    if code != "bad_xml":
        assert "VM db" in caught.value.msg
