//! FHIR R4: model, mapping, validation, search and REST over a storage port.
