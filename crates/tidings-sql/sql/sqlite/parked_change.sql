-- The plus keeps the planner from walking through all rows of the consumer, and through the list for each of them.
-- Each row: id, attempts, rounds, deaths or null for as it is, history, due in or null for held, letter or null for as it is, event that the row must have.
UPDATE tidings_parked
SET attempts = n.attempts, rounds = n.rounds, deaths = COALESCE(n.deaths, tidings_parked.deaths), history = n.history,
  due_us = {now} + n.due_in, letter = COALESCE(n.letter, tidings_parked.letter)
FROM (
  SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS attempts, json_extract(value, '$[2]') AS rounds, json_extract(value, '$[3]') AS deaths,
    json_extract(value, '$[4]') AS history, json_extract(value, '$[5]') AS due_in, json_extract(value, '$[6]') AS letter,
    json_extract(value, '$[7]') AS event
  FROM json_each(:rows)
) AS n
WHERE tidings_parked.id = n.id AND +tidings_parked.consumer = :consumer
  AND +tidings_parked.event_key = n.event
