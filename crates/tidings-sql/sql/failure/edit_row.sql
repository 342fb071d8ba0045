UPDATE tidings_parked
SET event_key = :event_key, event_id = :event_id, event_type = :event_type, envelope = :envelope, problem = NULL,
  attempts = 0, rounds = 0, deaths = 0, history = '[]', letter = NULL
WHERE id = :id
