//! The names of buckets, regions and accounts. They come from URLs that anybody may have written, and become
//! a part of paths and host names.

/// Returns true if a bucket or container can have this name. A name in Ceph may have its tenant in front, in
/// the form `tenant:bucket`.
pub(super) fn is_bucket_name(name: &str, scheme: &str) -> bool {
    let is_word = |word: &str, signs: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
    };
    let (tenant, name) = match name.split_once(':') {
        Some((tenant, name)) if scheme == "s3" => (Some(tenant), name),
        _ => (None, name),
    };
    // three dots would be a path
    let has_letter = name.contains(|c: char| c.is_ascii_alphanumeric());
    name.len() >= 3 && has_letter && is_word(name, "._-$") && tenant.is_none_or(|tenant| is_word(tenant, "_"))
}

/// Returns true if this can be the name of a region. It becomes a part of a host name.
pub(super) fn is_region(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(sound)
}

/// Returns true if this can be the name of a storage account. It becomes a part of a host name.
pub(super) fn is_account(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=24).contains(&text.len()) && text.chars().all(sound)
}

/// Returns true if a bucket's name can stand in front of a host name.
pub(super) fn is_host_label(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    (3..=63).contains(&text.len())
        && text.chars().all(sound)
        && !text.contains("..")
        && is_edge(text.chars().next())
        && is_edge(text.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_a_part_of_a_hosts_name_has_no_signs_in_it() {
        let long = "a".repeat(64);
        for region in ["", "x@localhost:39444/", "eu-1/", "eu 1", "EU-1", "eu.1", "eu-1\n", "ü", &long] {
            assert!(!is_region(region), "{region}");
        }
        assert!(is_region("us-gov-west-1") && is_region("auto") && is_region("garage"));
        for account in ["", "ab", "a.b.c", "evil.example/", "Acme1", "acme-1"] {
            assert!(!is_account(account), "{account}");
        }
        for bucket in ["evil.example/x", "a@b", "te_am", "team:lfs", "-team", "team.", "te..am", "Team"] {
            assert!(!is_host_label(bucket), "{bucket}");
        }
        assert!(is_host_label("team-lfs") && is_host_label("lfs.example.com"));
    }

    #[test]
    fn a_bucket_may_have_its_tenant_in_front_where_ceph_has_it() {
        for (name, scheme, sound) in [
            ("tenant:bucket", "s3", true),
            ("ten_ant1:buc.ket", "s3", true),
            ("tenant:bucket", "gs", false),
            (":bucket", "s3", false),
            ("tenant:", "s3", false),
            ("a:b:ccc", "s3", false),
            ("ten.ant:bucket", "s3", false),
            ("...", "s3", false),
            ("$logs", "az", true),
        ] {
            assert_eq!(is_bucket_name(name, scheme), sound, "{name}");
        }
    }
}
