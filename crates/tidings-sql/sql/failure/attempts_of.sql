SELECT attempts, noted_us FROM tidings_attempt WHERE consumer = :consumer AND event_key = :event_key
