INSERT INTO tidings_attempt (consumer, event_key, attempts, noted_us)
VALUES [(:consumer, :event_key, :attempts, {now})]
{attempt_conflict}
