INSERT INTO tidings_dead_letter (id, consumer, lane, lane_key, event_key, event_id, event_type, aggregate_id, correlation_id, envelope, problem, log_position,
  handler, code_version, cause, reason, reasons, fingerprint, attempts, rounds, deaths, history, holds, status, first_failed_us, first_died_us, died_us, changed_us)
VALUES [(:id, :consumer, :lane, :lane_key, :event_key, :event_id, :event_type, :aggregate_id, :correlation_id, :envelope, :problem, CAST(:log_position AS {integer}),
  :handler, :code_version, :cause, :reason, :reasons, :fingerprint, :attempts, :rounds, :deaths, :history, :holds, 'open', CAST(:first_failed_us AS {integer}), {now}, {now}, {now})]
