UPDATE tidings_parked
SET attempts = :attempts, rounds = :rounds, history = :history, due_us = {now} + :due_in
WHERE consumer = :consumer AND id = :id
