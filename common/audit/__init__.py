"""The hash-chained, signed log and its verification."""

from common.audit.log import START, AuditError, AuditLog, Entry, Receipt, signed_line, verify, verify_lines

__all__ = ["START", "AuditError", "AuditLog", "Entry", "Receipt", "signed_line", "verify", "verify_lines"]
