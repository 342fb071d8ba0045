UPDATE tidings_dead_letter
SET status = 'open', deaths = :deaths, envelope = :envelope, problem = :problem, log_position = CAST(:log_position AS {integer}),
  handler = :handler, cause = :cause, reason = :reason, reasons = :reasons, fingerprint = :fingerprint,
  attempts = :attempts, rounds = :rounds, history = :history, died_us = :died_us, changed_us = {now}
WHERE consumer = :consumer AND event_key = :event_key
