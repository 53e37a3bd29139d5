"""What is run: tasks, recipes, the command line, the routing probe and its reports.

Stands on ``rewards``, ``estimators`` and ``rl``; none of them imports it.
"""
