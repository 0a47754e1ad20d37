"""What a call costs, told by counts that no load of the machine changes. ``make counts``."""
