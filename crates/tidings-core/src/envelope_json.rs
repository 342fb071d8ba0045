//! envelope_json
