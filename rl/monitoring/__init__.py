"""What watches a run: its log files, its alarms and the history that they look at."""
