/* Terminal requests with bit 31 set. glibc's ioctl takes an unsigned long, musl's an int, which extends the sign. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void)
{
	static const unsigned requests[] = { 0x80045430 /* TIOCGPTN */, 0x80045439 /* TIOCGPTLCK */, 0x802c542a /* TCGETS2 */ };
	char answer[64];
	int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);

	if (terminal < 0)
		return 1;
	for (unsigned index = 0; index < 3; index++)
		if (ioctl(terminal, requests[index], answer) != 0)
			return 2 + index;
	return 0;
}
