INSERT INTO tidings_policy (consumer, attempts_max) VALUES (:consumer, :attempts)
