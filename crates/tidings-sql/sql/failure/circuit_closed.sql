DELETE FROM tidings_circuit WHERE consumer = :consumer
