//! The layer that the campaigns with power cuts and failing disks rest on does what it says.

use hookline_integration_tests::faults;

#[test]
fn the_layer_loses_and_fails_what_it_is_told_to() {
    let output = faults::self_test();
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{wrong}");
    println!("{told}");
}
