-- Each row: id, attempts, rounds, deaths or null for as it is, history, due in or null for held, letter or null for as it is, event that the row must have.
UPDATE tidings_parked AS p
SET attempts = n.attempts, rounds = n.rounds, deaths = COALESCE(n.deaths, p.deaths), history = n.history,
  due_us = {now} + n.due_in, letter = COALESCE(n.letter, p.letter)
FROM (
  SELECT CAST(value->>0 AS bigint) AS id, CAST(value->>1 AS bigint) AS attempts, CAST(value->>2 AS bigint) AS rounds, CAST(value->>3 AS bigint) AS deaths,
    value->>4 AS history, CAST(value->>5 AS bigint) AS due_in, value->>6 AS letter,
    value->>7 AS event
  FROM json_array_elements(CAST(:rows AS json))
) AS n
WHERE p.id = n.id AND p.consumer = :consumer AND p.event_key = n.event
