UPDATE tidings_parked
SET attempts = :attempts, rounds = :rounds, deaths = :deaths, history = :history, due_us = NULL, letter = :letter
WHERE consumer = :consumer AND id = :id
