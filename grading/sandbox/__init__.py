"""The wall: a student's code runs in a confined process, and the suites judge it from outside through stand-ins."""

from ._remote import RemoteSubject, Sandbox, SandboxError

__all__ = ["RemoteSubject", "Sandbox", "SandboxError"]
