"""Summarizes many stored reports: counts, and the hosts that differ from those like them. Touches no machine."""
