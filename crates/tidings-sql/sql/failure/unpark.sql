DELETE FROM tidings_parked WHERE consumer = :consumer AND id IN ([:id])
