INSERT INTO tidings_circuit (consumer, since_us, probe_us, reason) VALUES (:consumer, :since, :probe, :reason)
