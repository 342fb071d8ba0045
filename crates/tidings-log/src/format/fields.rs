//! Reading and writing the fields of records: little-endian integers, variable-length integers, texts. Every read is checked.

/// Bytes do not have the form that they should have; the checksum held, so this is a defect or a forgery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is malformed")]
pub(crate) struct Malformed {
    /// Which field.
    pub what: &'static str,
}

/// Takes fields off the front of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Fields of these bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(
        &mut self,
        count: usize,
        what: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Malformed { what })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed { what })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array(what).map(u8::from_le_bytes)
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Eight bytes, signed.
    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        self.array(what).map(i64::from_le_bytes)
    }

    /// An integer of one to ten bytes, seven bits each, the least first.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed { what });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed { what })
    }

    /// A signed integer, its sign folded into the lowest bit.
    pub(crate) fn signed_varint(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let folded = self.varint(what)?;
        Ok(((folded >> 1) as i64) ^ -((folded & 1) as i64))
    }

    /// A length and so many bytes.
    pub(crate) fn counted(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(self.varint(what)?).map_err(|_| Malformed { what })?;
        self.bytes(count, what)
    }

    /// The same, where there is one.
    pub(crate) fn counted_if(
        &mut self,
        given: bool,
        what: &'static str,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        given.then(|| self.counted(what)).transpose()
    }

    /// A length and so many bytes of UTF-8.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.counted(what)?).map_err(|_| Malformed { what })
    }
}

/// Appends an integer of variable length.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer of variable length.
pub(crate) fn put_signed_varint(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and so many bytes.
pub(crate) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_varint`] appends.
pub(crate) fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_of_variable_length_come_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            put_signed_varint(&mut out, signed);

            let mut fields = Fields::new(&out);

            prop_assert_eq!(fields.varint("a").unwrap(), value);
            prop_assert_eq!(fields.signed_varint("b").unwrap(), signed);
            prop_assert_eq!(fields.left(), 0);
        }

        #[test]
        fn hostile_bytes_are_malformed_and_never_a_panic(bytes: Vec<u8>) {
            let mut fields = Fields::new(&bytes);
            while fields.varint("v").is_ok() && fields.text("t").is_ok() {}
        }
    }

    #[test]
    fn an_integer_that_does_not_fit_is_malformed() {
        assert!(Fields::new(&[0xff; 11]).varint("v").is_err());
        assert!(
            Fields::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])
                .varint("v")
                .is_err()
        );
        assert_eq!(
            Fields::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).varint("v"),
            Ok(u64::MAX)
        );
    }
}
