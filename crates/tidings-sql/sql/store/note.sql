INSERT INTO tidings_relay_note (outbox, row_id, state, attempts, reason, event_id, event_type, destination, event_key, noted_at_us)
VALUES (:outbox, :row_id, :state, :attempts, :reason, :event_id, :event_type, :destination, :event_key, {now})
{note_conflict}
