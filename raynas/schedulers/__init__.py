"""Schedulers: which trials go on and which stop early."""
