SELECT lane, COUNT(*) FROM tidings_parked WHERE consumer = :consumer GROUP BY lane
