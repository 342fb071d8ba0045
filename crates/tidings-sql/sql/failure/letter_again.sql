-- What a person has put an end to while its row was being tried stays ended.
UPDATE tidings_dead_letter
SET status = 'open', deaths = :deaths, lane = :lane, lane_key = :lane_key, envelope = :envelope, problem = :problem, log_position = CAST(:log_position AS {integer}),
  handler = :handler, code_version = :code_version, cause = :cause, reason = :reason, reasons = :reasons, fingerprint = :fingerprint,
  attempts = :attempts, rounds = :rounds, history = :history, holds = :holds, died_us = {now}, changed_us = {now}
WHERE consumer = :consumer AND event_key = :event_key
  AND (:from_row = 0 OR status NOT IN ('discarded', 'edited'))
