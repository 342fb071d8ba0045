INSERT INTO tidings_relay_note (outbox, row_id, state, attempts, reason, event_id, event_type, destination, event_key, noted_at_us)
SELECT :outbox, :row_id, :state, :attempts, :reason, :event_id, :event_type, :destination, :event_key, {now}
FROM tidings_relay_lease AS l
WHERE {is_held}
{for_update}
{note_conflict}
