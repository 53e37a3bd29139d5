"""What a checkpoint's confidence is worth to a router: records in, metrics with intervals out.

``tables`` reads files made by others, ``records`` turns them into the records table, ``measure`` into metrics.
"""
