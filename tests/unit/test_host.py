"""Whether a user runs the cells: if a kernel does not say, it is unknown, and unknown is not no."""

from types import SimpleNamespace

import IPython
import pytest

from gglib_nb.notebook import host


@pytest.fixture
def use_kernel(monkeypatch):
    def use(**attributes):
        shell = SimpleNamespace(kernel=SimpleNamespace(**attributes))
        monkeypatch.setattr(IPython, "get_ipython", lambda: shell)

    return use


@pytest.mark.parametrize("attributes", [{}, {"_allow_stdin": None}, {"_allow_stdin": True}])
def test_a_kernel_that_does_not_deny_input_has_a_user(use_kernel, attributes):
    use_kernel(**attributes)

    assert host.has_user()
    assert not host.is_recording()


def test_a_kernel_without_input_has_no_user(use_kernel):
    use_kernel(_allow_stdin=False)

    assert not host.has_user()
    assert host.is_recording()


def test_voila_opens_a_page_although_its_kernel_takes_no_input(use_kernel, monkeypatch):
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    use_kernel(_allow_stdin=False)

    assert not host.is_recording()


def test_without_a_kernel_there_is_no_user(monkeypatch):
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)

    assert host.kernel() is None
    assert not host.has_user()
