SELECT since_us, probe_us, reason FROM tidings_circuit WHERE consumer = :consumer
