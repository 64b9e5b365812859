"""Operations that commands perform on existing images, records and machines."""
