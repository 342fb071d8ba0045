INSERT INTO tidings_relay_note (outbox, row_id, state, attempts, reason, event_id, event_type, destination, event_key, noted_at_us)
SELECT :outbox, :row_id, :state, :attempts, :reason, :event_id, :event_type, :destination, :event_key, {now}
FROM tidings_relay_lease AS l
WHERE l.outbox = :leased AND l.shard = :shard AND l.shards = :shards AND l.owner = :owner AND l.epoch = :epoch AND l.expires_at_us >= {now}
{for_update}
{note_conflict}
