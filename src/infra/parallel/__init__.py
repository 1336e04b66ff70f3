"""Many processes on one job: shards written once, work claimed by locks, models sharded over devices."""
