//! `medmesh pki models`: the signed table of what the catalog may name.
use crate::{cli::pki::ModelsArgs, out};
use anyhow::Result;
use federation::{
    models::{AUTHORITY, DeviceModels},
    pki::{self, Ca},
};

/// Signs the table.
pub fn issue(args: &ModelsArgs) -> Result<()> {
    // Whoever can read the authority's key is the authority.
    Ca::open(&args.dir)?;
    let (key, authority) = pki::note_authority(&args.dir, AUTHORITY, &mut rand::rng())?;
    let table = DeviceModels::new(args.models.clone(), args.firmware.clone());
    pki::write_public(&args.out, &table.sign(&key))?;
    out::line(args.out.display())?;
    Ok(out::line(format!("checked with {}", authority.display()))?)
}
