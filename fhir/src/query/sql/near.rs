//! Places near a place (FHIR R4 location.html#positional).
use super::Bind;
use super::condition::Compiler;
use crate::query::matching::EARTH_M;

/// A place as a point on a ball of radius 1.
pub fn on_ball(latitude: f64, longitude: f64) -> [f64; 3] {
    let (north, east) = (latitude.to_radians(), longitude.to_radians());
    [
        north.cos() * east.cos(),
        north.cos() * east.sin(),
        north.sin(),
    ]
}

impl Compiler<'_, '_> {
    /// The straight line through the earth is shorter than the one of that distance on its surface.
    pub(super) fn near(&mut self, row: &str, place: (f64, f64), metres: f64) {
        let angle = (metres / EARTH_M).clamp(0.0, std::f64::consts::PI);
        let line = 2.0 * (angle / 2.0).sin();
        let [x, y, z] = on_ball(place.0, place.1);
        let square = |column: &str| format!("({row}.{column} - ?) * ({row}.{column} - ?)");
        let text = format!(
            "{} + {} + {} <= ?",
            square("low"),
            square("high"),
            square("base_low")
        );
        let values = [x, x, y, y, z, z, line * line].map(Bind::Real);
        self.compare(&text, &values);
    }
}
