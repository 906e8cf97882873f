"""Names that rooms agree on."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mayfly import names

LABEL = re.compile(r"[a-z0-9_-]{0,63}")
VM = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@given(st.text())
def test_slug_is_a_label_value_whatever_the_text(text):
    """Google refuses the whole VM for one bad label."""
    assert LABEL.fullmatch(names.slug(text))


@given(st.from_regex(names.SESSION_PATTERN, fullmatch=True))
def test_session_makes_a_vm_name_and_comes_back_from_it(session):
    """The reaper finds a stack by the name of its VM, and only by that."""
    vm = names.vm(session)

    assert VM.fullmatch(vm)
    assert session == names.session_of(vm)


@pytest.mark.parametrize("vm", ["mayfly", "mayfly-", "other-dev", "mayfly-Dev", "xmayfly-dev"])
def test_session_of_is_none_when_the_vm_is_not_ours(vm):
    """A stranger's VM must never look like a session."""
    assert names.session_of(vm) is None
