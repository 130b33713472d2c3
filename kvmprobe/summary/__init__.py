"""Summarizes many stored reports: counts, and the hosts that differ from similar ones. Touches no machine."""
