;;; rlm-context-files.el --- Questions about files and directories  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; Files and directories go to the server by name, what it can't read as it
;; is as a copy.  The unsaved changes of all buffers that visit any of them go
;; along, as overlays.

;;; Code:

(require 'seq)
(require 'rlm-context)
(require 'rlm-server)

(defcustom rlm-include nil
  "Globs of the files to read in directories; nil means all text files.
They are written as in a .gitignore file and relative to the directory
that is asked about.  A good thing to set as a directory-local variable."
  :group 'rlm
  :type '(repeat string)
  :safe #'rlm-context--strings-p
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-exclude nil
  "Globs of the files to leave out in directories, as in `rlm-include'.
Files that ignore files name are left out in any case."
  :group 'rlm
  :type '(repeat string)
  :safe #'rlm-context--strings-p
  :package-version '(rlm . "0.1.0"))

(defun rlm-context--strings-p (value)
  "Return non-nil if VALUE is a list of strings."
  (and (proper-list-p value) (seq-every-p #'stringp value)))

;;;; Sources

(defun rlm-context-of-files (files label &optional base)
  "Return FILES, which may be directories, as a context called LABEL.
Files are named relative to BASE, where they are below it.  Unsaved
changes of buffers that visit any of the files go along."
  (unless files
    (user-error "There are no files to ask about"))
  (let ((context (rlm-context-make label (car files))))
    (rlm-context-spooling context
      (setf (rlm-context-sources context)
            (mapcar (lambda (file)
                      (rlm-context-source-of-file context file base (and (cdr files) t)))
                    files))
      (rlm-context-add-unsaved context files))
    (let ((files (mapcar #'expand-file-name files)))
      (rlm-context-made-by context (lambda (_live) (rlm-context-of-files files label base))))))

(defun rlm-context-of-directory (directory label)
  "Return DIRECTORY as a context called LABEL."
  (rlm-context-of-files (list directory) label))

(defun rlm-context-source-of-file (context file base among-others)
  "Return FILE as a source of CONTEXT, named relative to BASE.
A directory is named only AMONG-OTHERS."
  (let* ((file (expand-file-name file))
         (name (and base (rlm-context--relative file base))))
    (cond ((not (file-exists-p file))
           (user-error "There is no %s" (abbreviate-file-name file)))
          ((string-match-p "[\x3fff80-\x3fffff]" file)
           (user-error "The name of %s can't be sent: it is not valid text" file))
          ((file-directory-p file)
           (rlm-context--tree file (rlm-context-host context) (and among-others name)))
          ((rlm-context-plain-p file (rlm-context-host context))
           (rlm-context-file file name))
          (t (rlm-context--copied context file)))))

(defun rlm-context--relative (file base)
  "Return the name of FILE relative to BASE if it is below it, else nil."
  (let ((name (file-relative-name file base)))
    (unless (string-match-p "\\`\\.\\.\\(?:/\\|\\'\\)" name)
      name)))

(defun rlm-context--tree (directory host &optional name)
  "Return DIRECTORY as a source called NAME, for a server on HOST."
  (unless (equal host (file-remote-p directory))
    (user-error "%s is on another machine than the server: see `rlm-remote-server'" directory))
  (append (list :kind "tree" :root (directory-file-name directory))
          (when name (list :name name))
          (when rlm-include (list :include (vconcat rlm-include)))
          (when rlm-exclude (list :exclude (vconcat rlm-exclude)))))

(defun rlm-context--copied (context file)
  "Return FILE, which is remote, compressed or encrypted, as a source of CONTEXT."
  (unless (file-readable-p file)
    (user-error "%s can't be read" (abbreviate-file-name file)))
  (with-temp-buffer
    (insert-file-contents file)
    (list :kind "file"
          :path (rlm-context-spool-region context (point-min) (point-max))
          :name (file-name-nondirectory file)
          :origin (if (equal (rlm-context-host context) (file-remote-p file))
                      file
                    (concat "rlm-buffer:" file)))))

;;;; Unsaved changes

(defun rlm-context-add-unsaved (context files)
  "Add to CONTEXT what is unsaved below FILES.
A file that was never saved becomes a source, other changes overlays."
  (dolist (buffer (rlm-context--unsaved-buffers files (rlm-context-host context)))
    (with-current-buffer buffer
      (let ((file (expand-file-name buffer-file-name))
            (spool (save-restriction
                     (widen)
                     (rlm-context-spool-region context (point-min) (point-max)))))
        (if (file-exists-p file)
            (push (list :path file :spool spool) (rlm-context-overlays context))
          (setf (rlm-context-sources context)
                (append (rlm-context-sources context)
                        (list (list :kind "file" :path spool :origin file
                                    :name (rlm-context--name-below file files))))))))))

(defun rlm-context--unsaved-buffers (files host)
  "Return the modified buffers that visit something of FILES on HOST."
  (let ((places (mapcar (lambda (file)
                          (let ((file (file-truename file)))
                            (if (file-directory-p file) (file-name-as-directory file) file)))
                        files)))
    (seq-filter (lambda (buffer)
                  (when-let ((file (and (buffer-modified-p buffer) (buffer-file-name buffer))))
                    (and (equal host (file-remote-p file))
                         (rlm-context--in-p (file-truename file) places))))
                (buffer-list))))

(defun rlm-context--in-p (file places)
  "Return non-nil if FILE is one of PLACES, or below a directory of them."
  (seq-some (lambda (place)
              (if (directory-name-p place)
                  (string-prefix-p place file)
                (string= place file)))
            places))

(defun rlm-context--name-below (file files)
  "Return the name of FILE relative to its directory among FILES."
  (let ((root (seq-find (lambda (place)
                          (and (file-directory-p place)
                               (rlm-context--relative file place)))
                        files)))
    (if root (file-relative-name file root) (file-name-nondirectory file))))

(provide 'rlm-context-files)
;;; rlm-context-files.el ends here
